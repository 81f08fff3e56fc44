package api

import "time"

// KeyStatus describes the storage key, which seals the records of the store.
type KeyStatus struct {
	Term        int       `json:"term" doc:"how many storage keys there were, this one included"`
	InstallTime time.Time `json:"install_time" doc:"since when it is in use"`
	Encryptions int64     `json:"encryptions" doc:"how many records it sealed; after a crash, up to a minute of them is missing"`
}

// HAStatus lists the servers of a cluster.
type HAStatus struct {
	Nodes []HANode `json:"nodes" doc:"this server alone"`
}

// HANode is a server of a cluster.
type HANode struct {
	Hostname       string     `json:"hostname" audit:"plain" doc:"name of the machine"`
	APIAddress     string     `json:"api_address" audit:"plain" doc:"empty: the server does not know how callers reach it"`
	ClusterAddress string     `json:"cluster_address" audit:"plain" doc:"empty: there is no cluster"`
	ActiveNode     bool       `json:"active_node" doc:"true"`
	LastEcho       *time.Time `json:"last_echo" doc:"null: nobody echoes to itself"`
	Version        string     `json:"version" audit:"plain" doc:"version of the server"`
}
