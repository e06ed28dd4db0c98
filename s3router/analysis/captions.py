"""What may and what may not be concluded from each figure: the sentences under them."""

from __future__ import annotations

SIMILARITY = (
    "0 is what independent masks of these sparsities reach, 1 are equal masks; the tree joins what is alike (average "
    "linkage).{least} A large z-score says that two masks are not independent, not that they are alike: all masks "
    "begin at the same small weights of one backbone.{references}"
)
HOLD_AGAINST = " Hold the values against those of {references} (table above)."
MAP = (
    "Near points have similar masks. Axes have no meaning of their own; where the seeds of one route lie as far apart "
    "as different routes, the map shows chance."
)
LAYER_SIMILARITY = (
    "Where bars are high, routes remove the same weights. That they need the same thing there does not follow: layers "
    "whose masks have moved little from their common start are alike, too{next}."
)
NEXT_FIGURE = " (see the next figure)"
LAYER_CHANGED = (
    "The share of the removed weights that the initial mask kept, mean over packs. It grows with the learning rate of "
    "the scores and with the updates, so it compares layers of one training, not trainings of different settings."
)
LAYER_REMOVED = (
    "Means over packs. With one sparsity for every matrix all bars would be equal; they differ where thresholds are "
    "shared, or set by layer or role."
)
MAGNITUDES = (
    "{initial} A level line would be a mask that does not care for magnitudes. How much of a mask its weights' ranks "
    "explain stands in the table of packs."
)
BY_WEIGHT = "An initial mask by magnitude removes all on the left and nothing else."
BY_UNIT = (
    "Where weights go together (rows, columns, or N of each M neighbours), an initial mask ranks them within their "
    "units, so that it, too, removes weights of many magnitudes."
)
SHARED = (
    "At least one pack keeps {used:,} of {total:,} weights ({share:.2f} %), and all of them {kept:,}. Bars above "
    "chance on the right are weights that all do without; {magnitudes}, not of the languages."
)
BY_MAGNITUDES = "where magnitudes alone predict as many, that is a trait of the backbone"
WITHOUT_MAGNITUDES = "that may be a trait of the backbone (magnitudes were not compared)"
RELATION = (
    "The p-values are two-sided and permute routes, since pairs share them. A correlation over few languages is one "
    "observation of this sample, and says nothing of causes: recordings, speakers and amounts of speech differ between "
    "languages, too."
)
SAME_LANGUAGE = (
    " Some routes are of one language ({twice}), which is alike in everything that is held against the masks, whatever "
    "makes its masks alike: p-values, which take routes for independent, are too small."
)
ORDERED = "Each column is a language, each row the mask that serves it; dark is low among the masks of one column. "
SERVED = (
    "Means over {languages} languages: their own mask {own}, the most similar other one {nearest}, others on average "
    "{others}, the best other {best}{bare}. "
)
WITHIN = (
    "Within a language, similarity and this measure correlate by Spearman's {spearman} ({interval}; two-sided p {p}, "
    "{permutations} permutations of routes). Below 0, masks that are more alike make fewer errors. "
)
INTERVAL = "95 % of bootstrap samples of the {items} routes: {low} to {high}"
NO_INTERVAL = "no interval, which takes six"
NOT_WITHIN = (
    "Within no language is there a correlation with similarity: it takes three other masks at least, and errors and "
    "similarities that differ. "
)
ORDERED_END = (
    "All this is of these languages, recordings and seeds, and a mask may serve others well because it was trained on "
    "more speech."
)
BARE = ", no mask {}"
FEW = "With {permutations} permutations no p below {least} can come out. "
FEW_ROUTES = "Known of fewer than three routes, which a correlation takes: {measures}."
REPRESENTATIONS = (
    "Linear CKA, unbiased, on {frames:,} frames of {recordings} recordings ({seconds:.0f} s). 1: the same up to "
    "rotation and scale. CKA is ruled by the directions of largest variance: a small change of it can matter much to "
    "a head, and a large one little."
)
LAYER_WEIGHTS = (
    "Where the head reads. All weights begin equal and move slowly, and layers differ in scale, so a small weight "
    "does not say that a layer is of no use."
)
PURITY = (
    "The share of frames that the commonest character of their cluster accounts for, with the route's mask minus "
    "without, on its own speech ({seconds:.0f} s of {routes} routes; {clusters} k-means clusters, fitted on one half "
    "of the recordings and measured on the other). In the last hidden state it is {masked} with masks and {frozen} "
    "without, on average; a single cluster has {one_cluster}. Characters stand where the route's own head puts them by "
    "forced alignment, which is in favour of the mask. Above 0, characters are easier to tell apart; how much of that "
    "a head can use does not follow."
)
NO_SEEDS = (
    "No route has two seeds, so there is no upper reference: how alike two trainings of one language are is not known."
)
NO_LANG2VEC = "Languages were not held against typology: lang2vec is not installed (pip install lang2vec)."
NO_BACKBONE = "The backbone was left out, and with it initial masks, magnitudes, attention heads and representations."
GUESSED = (
    "Languages by the routes' names alone: {guessed} (--language ROUTE=CODE says another, ROUTE=none leaves a route "
    "out)."
)
EQUAL_MAGNITUDES = (
    "Many of the masked weights have equal magnitudes in the backbone ({share} % are 0): they count as one bin, within "
    "which magnitude does not tell weights apart, and percentiles without weights are left out."
)
OWN_WEIGHTS = (
    "What magnitudes say of {packs} is left empty: pruning trains the weights, too, and its masks follow those, not "
    "the backbone's."
)
NO_SPEECH = "Purity of characters was not measured: no speech of the routes was given (--speech)."
NO_AUDIO = "Representations were not compared: no audio was given (--audio)."
