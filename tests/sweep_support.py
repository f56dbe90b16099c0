"""Small sweeps for the tests of grids and of what is made of them."""

from initbench.question.request import configure

TINY = "synthetic:n=256,test=128,classes=3,shape=[1,6,6],noise=0.5"
SMALL = {"model": "mlp:width=8", "dataset": TINY, "steps": 3, "engine": "serial"}


def asked(grid, **more):
    return configure("sweep", schemes=["kaiming", "xavier"], grid=grid, **more)
