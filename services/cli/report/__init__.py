"""`vigil report`: a page for those who answer for the model, from what the store holds."""
