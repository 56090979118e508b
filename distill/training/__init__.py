"""Training: the loop, the losses, and the training of student, SASRec and teacher."""
