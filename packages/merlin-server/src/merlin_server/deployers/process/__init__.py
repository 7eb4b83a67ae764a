"""The deployer that runs each revision as a supervised local process."""

from merlin_server.deployers.process.deployer import open_process_deployer

__all__ = ["open_process_deployer"]
