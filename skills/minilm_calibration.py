"""How large MiniLM's activations get, recorded in single precision: what eight bits are scaled by.

``python -m skills.minilm_calibration`` remakes skills/minilm_int8.npz, in a few seconds. The texts
are of many kinds on purpose, and none is from a data set that anything is measured on.
"""

from __future__ import annotations

import numpy as np

from skills.minilm import CALIBRATION_FILE, Encoder, checked_weights
from skills.minilm_graph import REACH_OF, single_graph

CALIBRATION = (
    "What is the capital of Peru?",
    "Compute 417 plus 385 and explain each step.",
    "Write a Python function that returns the n-th Fibonacci number.\n\ndef fib(n: int) -> int:",
    "Quelle est la racine carrée de 144 ?",
    "A train leaves Boston at 3 pm going 60 miles per hour; another leaves New York, 215 miles "
    "away, at 4 pm going 75. When do they meet? Think step by step, give only the final time.",
    "¿Quién escribió Don Quijote de la Mancha y en qué año se publicó?",
    "Sort 42, 7, 19 in ascending order.",
    "Which of the following enzymes breaks down starch?\nA. pepsin\nB. amylase\nC. lipase\n"
    "D. trypsin\nAnswer with the letter.",
    r"Let $f(x)=\frac{x^2-1}{x+3}$. Find $\lim_{x\to\infty} f(x)/x$.",
    "hi",
    "",
    "日本の首都はどこですか。",
    "😀 tell me a joke!!!",
    '{"model": "a", "messages": [{"role": "user", "content": null}]}',
    "Under the Uniform Commercial Code, a merchant's firm offer is irrevocable for the stated time "
    "even without consideration, if it is in a signed writing. Does this hold for services?",
    "All cats are animals. Some animals are black. Therefore some cats are black. Is this valid?",
    "SELECT name, COUNT(*) FROM users GROUP BY name HAVING COUNT(*) > 1;",
    "Summarise: the mitochondrion is an organelle found in the cells of most eukaryotes. It "
    "generates most of the cell's supply of adenosine triphosphate, used as chemical energy. " * 3,
    "pls fix teh bug in my code it doesnt work",
    "Translate to German: The meeting has been moved to next Tuesday at noon.",
    "Reverse the word planet.",
    "Как называется самая длинная река в России?",
    "0 1 1 2 3 5 8 13 21 34",
    "Who won the match, and why does it matter to the people of the town by the sea?",
)
PROOF = (
    "Name the chemical element whose symbol is Fe.",
    "Explain the difference between a process and a thread, with an example in C.",
    "What is 12% of 350? Show your work.",
    "Wie viele Einwohner hat Österreich?",
    "",
    "The quick brown fox jumps over the lazy dog. " * 40,
)


def calibration() -> dict[str, np.ndarray]:
    """The arrays of the file: half precision is plenty for a range and for a proof."""
    weights = checked_weights()
    encoder = Encoder(weights, single_graph(weights, watch=True))
    products = [n for n in encoder.outputs if n.startswith(REACH_OF)]
    reach = np.max([_concatenated(encoder.run(t, products)) for t in CALIBRATION], axis=0)
    sizes = [len(r) for r in encoder.run("", products)]
    parts = np.split(reach, np.cumsum(sizes)[:-1])
    return {
        **{n.removeprefix(REACH_OF): r for n, r in zip(products, parts, strict=True)},
        "texts": np.array(PROOF),
        "expected": np.array([encoder.embed(t) for t in PROOF], np.float16),
    }


def _concatenated(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays).astype(np.float16)


if __name__ == "__main__":
    np.savez_compressed(CALIBRATION_FILE, allow_pickle=False, **calibration())
