"""Per topic: answers its checkers accept, and wrong ones, each with words of the hint it must be given."""
