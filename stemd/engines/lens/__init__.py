"""The lens as the bright field shows it: the linear estimate through it, and how it is measured."""
