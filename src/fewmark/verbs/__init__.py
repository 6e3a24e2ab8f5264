"""The verbs of fewmark as Python functions, one file a verb: what the command line and the web app call."""
