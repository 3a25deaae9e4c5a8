"""The labels of pairs that RoFormer-Sim-FT's supervised head learns (kexue.fm/archives/8541)."""

#: The first two are one task, the other three another.
LABELS = {"different": 0, "similar": 1, "contradiction": 2, "entailment": 3, "neutral": 4}
TASKS = ((0, 2), (2, 5))
