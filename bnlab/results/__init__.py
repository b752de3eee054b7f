"""Results: frozen dataclasses that experiments return and plots draw."""
