# Lets certifi, whose certificates Python's HTTP clients trust by themselves, name those that this run trusts.
import importlib.machinery
import importlib.util
import os
import sys


def _point():
    for name in ("certifi", "certifi.core"):
        if name in sys.modules:
            sys.modules[name].where = lambda: os.environ["SSL_CERT_FILE"]


class _Certifi:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "certifi":
            return None
        sys.meta_path.remove(cls)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, cls)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                _point()

            spec.loader.exec_module = exec_module
        return spec


if os.environ.get("SSL_CERT_FILE"):
    _point()  # a file of site-packages may have loaded it already
    sys.meta_path.insert(0, _Certifi)

# The sitecustomize that this one stands before.
_here = os.path.dirname(os.path.abspath(__file__))
_next = importlib.machinery.PathFinder.find_spec("sitecustomize", [p for p in sys.path if os.path.abspath(p) != _here])
if _next is not None and _next.loader is not None:
    _module = importlib.util.module_from_spec(_next)
    sys.modules["sitecustomize"] = _module
    _next.loader.exec_module(_module)
