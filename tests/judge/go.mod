// The language of the newest Go, as the newest Kubernetes is built: older settings take more (GODEBUG).
module judge

go 1.26
