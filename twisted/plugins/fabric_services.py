"""
The cloud's services, as C{twistd} lists them.
"""

from twisted.application.service import ServiceMaker

cloud = ServiceMaker("A whole cloud", "fabric.tap.cloud", "A whole cloud in one process.", "cloud")
api = ServiceMaker("Cloud API", "fabric.tap.api", "The EC2 and admin doors of a cloud.", "cloud-api")
metadata = ServiceMaker("Cloud metadata", "fabric.tap.metadata", "Tells machines about themselves.", "cloud-metadata")
controller = ServiceMaker(
    "Cloud controller", "fabric.tap.controller", "Takes reports, moves state, sweeps what is stuck.", "cloud-controller"
)
scheduler = ServiceMaker(
    "Cloud scheduler", "fabric.tap.scheduler", "Chooses the host for an instance.", "cloud-scheduler"
)
compute = ServiceMaker("Cloud compute", "fabric.tap.compute", "Runs instances on this host.", "cloud-compute")
network = ServiceMaker("Cloud network", "fabric.tap.network", "Makes networks on this host.", "cloud-network")
objectstore = ServiceMaker(
    "Cloud object store", "fabric.tap.objectstore", "Keeps the files of images.", "cloud-objectstore"
)
volume = ServiceMaker("Cloud volume", "fabric.tap.volume", "Keeps volumes on this host.", "cloud-volume")
