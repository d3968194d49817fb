"""What a trained model is asked, and what its answers are worth."""
