"""ONNX Runtime sessions of the configurations in use, as many as memory is granted for."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from mutualnet.messages import reason_of, shorten
from mutualnet.runtime.artifact import Artifact
from mutualnet.runtime.manifest import TABLE, ArtifactError, Configuration

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, RunOptions

logger = logging.getLogger(__name__)

INPUT, OUTPUT = "images", "outputs"
"""Names in every graph."""


class Sessions:
    """Loaded configurations, of which the least recently used leave first.

    Args:
        artifact: Where they come from.
        threads: That one inference uses; None for one a core.
        max_loaded: Most configurations in memory.
        max_bytes: Most bytes of their weights; the one in use stays in any case. None for any.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        threads: int | None = None,
        max_loaded: int = 8,
        max_bytes: int | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be >= 1 or None, got {threads}")
        if max_loaded < 1:
            raise ValueError(f"max_loaded must be >= 1, got {max_loaded}")
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"max_bytes must be >= 1 or None, got {max_bytes}")
        self.artifact, self.threads = artifact, threads
        self.max_loaded, self.max_bytes = max_loaded, max_bytes
        self._loaded: OrderedDict[str, tuple[int, InferenceSession]] = OrderedDict()
        # Who needs a configuration that is in memory does not wait for one that is loaded.
        self._lock, self._loading = threading.Lock(), threading.Lock()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Graphs in memory, the least recently used first."""
        with self._lock:
            return tuple(self._loaded)

    def get(self, configuration: Configuration) -> InferenceSession:
        """A configuration ready to run; loaded and run once on zeros if it is not in memory.

        Raises:
            ArtifactError: If its graph does not run, or takes or gives other shapes than the
                manifest says.
        """
        session = self._known(configuration)
        if session is not None:
            return session
        with self._loading:
            session = self._known(configuration)  # another thread may have been faster
            if session is None:
                # Make room first: memory must not hold one more than allowed even for a moment.
                with self._lock:
                    self._make_room(configuration.num_bytes)
                session = self._load(configuration)
                with self._lock:
                    self._loaded[configuration.graph] = (configuration.num_bytes, session)
            return session

    def _known(self, configuration: Configuration) -> InferenceSession | None:
        with self._lock:
            if configuration.graph not in self._loaded:
                return None
            self._loaded.move_to_end(configuration.graph)
            return self._loaded[configuration.graph][1]

    def _make_room(self, num_bytes: int) -> None:
        while self._loaded and (
            len(self._loaded) >= self.max_loaded
            or (
                self.max_bytes is not None
                and sum(size for size, _ in self._loaded.values()) + num_bytes > self.max_bytes
            )
        ):
            self._loaded.popitem(last=False)

    def _load(self, configuration: Configuration) -> InferenceSession:
        session = load_session(self.artifact, configuration, self.threads)
        manifest = self.artifact.manifest
        size = configuration.batch_size or 1
        zeros = np.zeros((size, *manifest.input_shape), np.float32)
        outputs = run_session(self.artifact, configuration, session, zeros, _giving_back())
        expected = (size, len(manifest.class_names))
        if outputs.shape != expected:
            raise ArtifactError(
                f"{self.artifact.name}: the graph of {configuration.subnet} must give {expected} "
                f"for the manifest's classes, got {outputs.shape}"
            )
        return session


def load_session(
    artifact: Artifact, configuration: Configuration, threads: int | None
) -> InferenceSession:
    """Load a configuration's graph into ONNX Runtime, with denormal numbers taken as zero.

    All graphs of a process work in the same memory, which is warm when one follows another.

    Raises:
        ArtifactError: If it cannot be loaded.
    """
    import onnxruntime

    _share_memory()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    if threads is not None:
        options.intra_op_num_threads = threads
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return onnxruntime.InferenceSession(
            str(artifact.folder / configuration.graph), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime has a class for each of its codes
        raise _failed(artifact, configuration, error) from None


_sharing = threading.Lock()
_is_shared = False


def _share_memory() -> None:
    """Make the arena that sessions of this process share instead of one for each."""
    global _is_shared
    import onnxruntime as ort

    with _sharing:
        if _is_shared:
            return
        _is_shared = True
        info = ort.OrtMemoryInfo(
            "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
        )
        any_size, as_requested, by_default = 0, 1, -1
        arena = ort.OrtArenaCfg(any_size, as_requested, by_default, by_default)
        try:
            ort.create_and_register_allocator(info, arena)
        except Exception as problem:  # the program has made one already, which sessions then share
            logger.debug("ONNX Runtime keeps the allocator that it has: %s", reason_of(problem))


def _giving_back() -> RunOptions:
    """Options of a run after which the arena gives back what no session uses."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def run_session(
    artifact: Artifact,
    configuration: Configuration,
    session: InferenceSession,
    images: np.ndarray,
    options: RunOptions | None = None,
) -> np.ndarray:
    """Run a loaded configuration.

    Args:
        artifact: For errors.
        configuration: For errors.
        session: Of the configuration.
        images: float32 (N, C, H, W), or clips (N, C, T, H, W).
        options: ONNX Runtime's of this run.

    Returns:
        Outputs (N, K).

    Raises:
        ArtifactError: If its graph does not run.
    """
    try:
        outputs: np.ndarray = session.run([OUTPUT], {INPUT: images}, options)[0]
    except Exception as error:  # ONNX Runtime has a class for each of its codes
        raise _failed(artifact, configuration, error) from None
    return outputs


def _failed(artifact: Artifact, configuration: Configuration, error: Any) -> ArtifactError:
    gone = [n for n in artifact.manifest.files if n != TABLE and not (artifact.folder / n).exists()]
    if gone:
        return ArtifactError(
            f"{artifact.name}: {artifact.folder} must keep its files while the artifact is in "
            f"use, and has lost {shorten(gone)}. Open the artifact again."
        )
    reason = reason_of(error)
    return ArtifactError(
        f"{artifact.name}: the graph of {configuration.subnet} does not run in ONNX Runtime "
        f"({reason}). Update onnxruntime, or export again."
    )
