"""Exercises of Chapter 11."""

from __future__ import annotations
