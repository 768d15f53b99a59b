"""What scenarios share: machines, commands, certificates, Kubernetes' answers and certwarden's, all as values."""
