"""The app that MONAI Label runs: its models, training tasks, scores and strategies."""

from __future__ import annotations

from pathlib import Path

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random

import monai_r2unet
from label_server.active_learning import MostUncertain, Uncertainty
from label_server.dicomweb import DescribedDatastore
from label_server.fine_tuning import FineTuning
from label_server.segmentation import Segmentation
from monai_r2unet.bundle import Bundle

__all__ = ["LabelApp"]


class LabelApp(MONAILabelApp):
    """Serves the bundles below ``APP_DIR/model`` that ``conf["bundles"]`` lists, separated by commas.

    Those in ``conf["trained"]`` can be trained.

    Args:
        app_dir: The server's own folder, see `label_server.serve`.
        studies: Folder with images, or address of a DICOMweb archive.
        conf: The server's ``--conf`` options.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.bundles = [Bundle(Path(app_dir) / "model" / name) for name in conf["bundles"].split(",")]
        self.trained = conf.get("trained", conf["bundles"]).split(",")
        self.tasks = {bundle.name: Segmentation(bundle) for bundle in self.bundles}
        super().__init__(
            app_dir,
            studies,
            conf,
            name="monai-r2unet",
            description="; ".join(bundle.metadata.get("task", bundle.name) for bundle in self.bundles),
            version=monai_r2unet.__version__,
        )

    def init_infers(self) -> dict[str, Segmentation]:
        """One inference task for each bundle, under its name."""
        return self.tasks

    def init_trainers(self) -> dict[str, FineTuning]:
        """One training task for each bundle whose author is trusted, under its name."""
        return {bundle.name: FineTuning(bundle, self.conf) for bundle in self.bundles if bundle.name in self.trained}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """``uncertainty_lung`` for the bundle ``lung``, and so on."""
        return {key: Uncertainty(task, key) for key, task in self._keys().items()}

    def init_strategies(self) -> dict[str, Strategy]:
        """``uncertainty_lung`` for the bundle ``lung``, and so on; and MONAI Label's own strategies without a score."""
        uncertain = {key: MostUncertain(task.bundle.name, key) for key, task in self._keys().items()}
        return {**uncertain, "random": Random(), "first": First()}

    def _keys(self) -> dict[str, Segmentation]:
        return {f"uncertainty_{name}": task for name, task in self.tasks.items()}

    def _init_dicomweb_datastore(self) -> Datastore:
        store = super()._init_dicomweb_datastore()
        # MONAI Label names the class where it creates the client and its session; a subclass would have to repeat all
        # that.
        store.__class__ = DescribedDatastore
        store.labels = {bundle.name: bundle.labels for bundle in self.bundles}
        return store
