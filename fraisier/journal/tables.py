"""The folded state in memory, with a note of what changed since it was last written.

A store writes what is noted and clears the notes. Where nothing is written, they name no more than is in memory anyway."""

from __future__ import annotations

from fraisier.journal.state import DeploymentState, LeaseState, Placement, Release, TargetState

PlaceKey = tuple[str, str, str]
ReleaseKey = tuple[str, str, str, str]
LeaseKey = tuple[str, str]


class Tables:
    """The folded state with a note of what changed. Subclasses load rows that are not in memory yet."""

    def __init__(self) -> None:
        self.deployments: dict[str, DeploymentState] = {}
        self.placements: dict[PlaceKey, Placement] = {}
        self.release_rows: dict[ReleaseKey, Release] = {}
        self.leases: dict[LeaseKey, LeaseState] = {}
        self.dirty_deployments: set[str] = set()
        self.dirty_targets: set[tuple[str, str]] = set()
        self.dirty_steps: set[tuple[str, str, str]] = set()
        self.dirty_plans: set[str] = set()
        self.dirty_placements: set[PlaceKey] = set()
        self.dirty_releases: set[ReleaseKey] = set()
        self.dirty_leases: set[LeaseKey] = set()

    # loading: a store overrides these

    def load_deployment(self, deployment_id: str) -> DeploymentState | None:
        """Return a deployment that is not in memory, with its targets."""
        return None

    def load_placement(self, key: PlaceKey) -> Placement | None:
        """Return a placement that is not in memory."""
        return None

    def load_release(self, key: ReleaseKey) -> Release | None:
        """Return a release that is not in memory."""
        return None

    def load_lease(self, key: LeaseKey) -> LeaseState | None:
        """Return a lease that is not in memory."""
        return None

    # reading

    def find_deployment(self, deployment_id: str) -> DeploymentState | None:
        """Return a deployment, or None."""
        found = self.deployments.get(deployment_id)
        if found is None:
            found = self.load_deployment(deployment_id)
            if found is not None:
                self.deployments[deployment_id] = found
        return found

    def find_lease(self, fraise: str, environment: str) -> LeaseState | None:
        """Return the newest lease, or None."""
        key = (fraise, environment)
        found = self.leases.get(key)
        if found is None:
            found = self.load_lease(key)
            if found is not None:
                self.leases[key] = found
        return found

    # writing

    def deployment(self, deployment_id: str) -> DeploymentState:
        """Return the deployment to change it, made when it is new."""
        self.dirty_deployments.add(deployment_id)
        found = self.find_deployment(deployment_id)
        if found is None:
            found = self.deployments[deployment_id] = DeploymentState(deployment_id)
        return found

    def target(self, deployment_id: str, name: str) -> TargetState:
        """Return a target of a deployment to change it, made when it is new."""
        self.dirty_targets.add((deployment_id, name))
        owner = self.deployments.get(deployment_id) or self.find_deployment(deployment_id)
        if owner is None:
            owner = self.deployment(deployment_id)
        found = owner.targets.get(name)
        if found is None:
            found = owner.targets[name] = TargetState(name)
        return found

    def step(self, deployment_id: str, target: str, step: str) -> TargetState:
        """Return a target to change one of its steps; the target's own row is noted only when it is new."""
        self.dirty_steps.add((deployment_id, target, step))
        owner = self.deployments.get(deployment_id) or self.find_deployment(deployment_id)
        found = None if owner is None else owner.targets.get(target)
        return self.target(deployment_id, target) if found is None else found

    def placement(self, fraise: str, environment: str, target: str) -> Placement:
        """Return a placement to change it, made when it is new."""
        key = (fraise, environment, target)
        self.dirty_placements.add(key)
        found = self.placements.get(key)
        if found is None:
            found = self.placements[key] = self.load_placement(key) or Placement(*key)
        return found

    def release(self, fraise: str, environment: str, target: str, release: str) -> Release:
        """Return a release to change it, made when it is new."""
        key = (fraise, environment, target, release)
        self.dirty_releases.add(key)
        found = self.release_rows.get(key)
        if found is None:
            found = self.release_rows[key] = self.load_release(key) or Release(*key)
        return found

    def lease(self, fraise: str, environment: str) -> LeaseState:
        """Return a lease to change it, made when it is new."""
        self.dirty_leases.add((fraise, environment))
        found = self.find_lease(fraise, environment)
        if found is None:
            found = self.leases[(fraise, environment)] = LeaseState(fraise, environment)
        return found

    def clear_dirty(self) -> None:
        """Forget what changed, after it was written."""
        for noted in (
            self.dirty_deployments,
            self.dirty_targets,
            self.dirty_steps,
            self.dirty_plans,
            self.dirty_placements,
            self.dirty_releases,
            self.dirty_leases,
        ):
            noted.clear()

    def forget(self) -> None:
        """Drop every row, so that they are loaded afresh."""
        self.deployments.clear()
        self.placements.clear()
        self.release_rows.clear()
        self.leases.clear()
        self.clear_dirty()
