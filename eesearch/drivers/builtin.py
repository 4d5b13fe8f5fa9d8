"""The drivers that come with eesearch; importing this module registers them."""

from eesearch.drivers import optuna_driver, ray_driver

__all__ = ["optuna_driver", "ray_driver"]
