"""What a dashboard shows of a project: panels of what `queries` answers.

Nothing is counted here. Distinct people are told of buckets alone: of several no answer has them.
"""
