"""Routers: predict, per question and arm, success and cost; policies choose plans from that."""
