"""The shim: reads cgroups, reports, carries out orders, and fails safely."""
