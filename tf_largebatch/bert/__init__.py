"""BERT: its text and questions, pretraining, and SQuAD."""
