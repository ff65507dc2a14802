"""What every part of heedmap may use: files, sizes, words, progress; it knows nothing of models or maps."""
