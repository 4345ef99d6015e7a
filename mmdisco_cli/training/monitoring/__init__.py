"""What a training shows of itself while it goes on: held-out figures, signs of failing, previews, and a page of all."""
