"""The schema of rows; written atomically, read into pandas. Imports plain helpers alone, never Keras or TensorFlow."""
