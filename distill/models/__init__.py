"""The models: student, teacher LLM, SASRec, and what they are made of."""
