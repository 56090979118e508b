"""Training: the loop, the losses, and the jobs of student, SASRec and teacher."""
