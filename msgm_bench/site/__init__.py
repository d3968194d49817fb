"""The site of all boards: static pages that need no server and ask nothing of the network."""

from msgm_bench.site.build import Site, build_site, make_site

__all__ = ["Site", "build_site", "make_site"]
