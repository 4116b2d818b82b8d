"""The plug-in for the Model Garden: recipes, training, export, evaluation."""
