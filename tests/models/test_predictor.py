from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from torch import nn

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.data.graphs import CrystalGraphs
from matwheel.data.targets import TargetTransform
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.cgcnn import CGCNN
