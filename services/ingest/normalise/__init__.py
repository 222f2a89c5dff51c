"""What a received message means: pure, one message in, findings and refusals out."""
