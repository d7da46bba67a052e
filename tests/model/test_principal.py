from __future__ import annotations

from fedctl.model.principal import Principal

ROLES = ["agent", "admin", "operator", "owner"]


def test_a_role_may_do_what_the_roles_below_it_may():
    for place, role in enumerate(ROLES):
        who = Principal(tenant_id="t", role=role)  # type: ignore[arg-type]
        assert [who.may(other) for other in ROLES] == [other_place <= place for other_place in range(4)]  # type: ignore[arg-type]
