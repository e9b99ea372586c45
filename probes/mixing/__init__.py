"""Probes that join several rows or several layers before they read a label."""
