"""Classifiers of scikit-learn by name, and what planning asks of them; imports nothing heavy."""

import difflib

PACKAGE = "sklearn"
# Each class has a score that is linear in the pixels, and the largest wins: weights of a softmax.
LINEAR = (
    "sklearn.discriminant_analysis:LinearDiscriminantAnalysis",
    "sklearn.linear_model:LogisticRegression",
    "sklearn.linear_model:LogisticRegressionCV",
    "sklearn.linear_model:PassiveAggressiveClassifier",
    "sklearn.linear_model:Perceptron",
    "sklearn.linear_model:RidgeClassifier",
    "sklearn.linear_model:RidgeClassifierCV",
    "sklearn.linear_model:SGDClassifier",
    "sklearn.svm:LinearSVC",
)
# SVC is among these with a linear kernel, too: its pairs of classes vote.
OTHERS = (
    "sklearn.discriminant_analysis:QuadraticDiscriminantAnalysis",
    "sklearn.ensemble:AdaBoostClassifier",
    "sklearn.ensemble:BaggingClassifier",
    "sklearn.ensemble:ExtraTreesClassifier",
    "sklearn.ensemble:GradientBoostingClassifier",
    "sklearn.ensemble:HistGradientBoostingClassifier",
    "sklearn.ensemble:RandomForestClassifier",
    "sklearn.naive_bayes:BernoulliNB",
    "sklearn.naive_bayes:ComplementNB",
    "sklearn.naive_bayes:GaussianNB",
    "sklearn.naive_bayes:MultinomialNB",
    "sklearn.neighbors:KNeighborsClassifier",
    "sklearn.neighbors:NearestCentroid",
    "sklearn.neural_network:MLPClassifier",
    "sklearn.svm:NuSVC",
    "sklearn.svm:SVC",
    "sklearn.tree:DecisionTreeClassifier",
    "sklearn.tree:ExtraTreeClassifier",
)
KNOWN = (*LINEAR, *OTHERS)
# Those whose answers no random number changes; NuSVC and SVC draw for probabilities alone.
WITHOUT_DRAWS = (
    "sklearn.discriminant_analysis:LinearDiscriminantAnalysis",
    "sklearn.discriminant_analysis:QuadraticDiscriminantAnalysis",
    "sklearn.linear_model:RidgeClassifierCV",
    "sklearn.naive_bayes:BernoulliNB",
    "sklearn.naive_bayes:ComplementNB",
    "sklearn.naive_bayes:GaussianNB",
    "sklearn.naive_bayes:MultinomialNB",
    "sklearn.neighbors:KNeighborsClassifier",
    "sklearn.neighbors:NearestCentroid",
    "sklearn.svm:NuSVC",
    "sklearn.svm:SVC",
)


def is_users(reference):
    """Tell whether ``module:name`` is a user's own, and none of scikit-learn's classes."""
    return reference.partition(":")[0].partition(".")[0] != PACKAGE


def nearest(reference):
    """Return the known classifiers that a mistyped reference may mean, the likeliest first."""
    name = reference.partition(":")[2]
    same = [known for known in KNOWN if known.endswith(f":{name}")]
    return same or difflib.get_close_matches(reference, KNOWN)
