"""What a run that compared images with texts says when it is prompted: scores and heat maps, without labels."""
