"""The book's own code: one folder a topic, with all that its chapter needs.

``results`` holds what experiments return, ``plots`` draws it, and ``exercises`` checks the reader's solutions;
``experiments``, or modules that are named after their idea, make the results. A topic with stored results has a module
``stored``: its tuple ``EXPERIMENTS`` holds a `bnlab.experiments.LongExperiment` for each file in ``book/results``, and
nothing else of the folder imports it.
"""

TOPICS = (
    "feature_scaling",
    "covariate_shift",
    "naive_failure",
    "full_whitening",
    "minibatch_batchnorm",
    "gradient_flow",
    "inference_statistics",
    "convolutional_batchnorm",
    "figure_one",
    "accelerating",
    "why_it_works",
    "limits_and_relatives",
    "troubleshooting",
    "making_it_fast",
    "claims",
)
"""The folders, in the order of the chapters."""
