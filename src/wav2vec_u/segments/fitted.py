"""What using an estimator before it has learned anything answers."""

from __future__ import annotations


def require_fitted(estimator: object, attribute: str) -> None:
    """Raise a plain error where learned state is missing.

    Parameters
    ----------
    estimator : object
        Anything with scikit-learn's contract: learned state ends in ``_`` and is set by ``fit``.
    attribute : str
        One learned attribute.

    Raises
    ------
    RuntimeError
        If ``fit`` has not been called.
    """
    if not hasattr(estimator, attribute):
        raise RuntimeError(f"this {type(estimator).__name__} is not fitted yet; call fit first")
