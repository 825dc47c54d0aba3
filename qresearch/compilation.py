"""JAX's persistent compilation cache, in the user's cache folder."""

import os

import jax
import platformdirs


def keep_compiled_programs() -> None:
    """Keep every compiled program on disk for the next process; JAX_COMPILATION_CACHE_DIR or jax's own
    setting goes first.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    jax.config.update("jax_compilation_cache_dir", str(platformdirs.user_cache_path("qresearch") / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
