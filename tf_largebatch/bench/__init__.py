"""What `tf-largebatch bench` measures, one file a benchmark."""
