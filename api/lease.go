package api

import "time"

// LookupLease names a lease.
type LookupLease struct {
	LeaseID string `json:"lease_id" audit:"plain" doc:"ID of the lease"`
}

// LeaseInfo describes a lease.
type LeaseInfo struct {
	ID          string     `json:"id" audit:"plain"`
	IssueTime   time.Time  `json:"issue_time"`
	ExpireTime  *time.Time `json:"expire_time"`
	LastRenewal *time.Time `json:"last_renewal" doc:"null if it was never renewed"`
	Renewable   bool       `json:"renewable"`
	TTL         Seconds    `json:"ttl" doc:"time that is left"`
}

// RenewLease asks for more time for a lease, named in the path or the body.
type RenewLease struct {
	URLLeaseID string  `json:"-" path:"url_lease_id" audit:"plain" doc:"ID of the lease"`
	LeaseID    string  `json:"lease_id,omitempty" audit:"plain" doc:"ID of the lease; that in the path counts more"`
	Increment  Seconds `json:"increment,omitempty" doc:"time wished for"`
}

// RevokeLease ends a lease, named in the path or the body.
type RevokeLease struct {
	URLLeaseID string `json:"-" path:"url_lease_id" audit:"plain" doc:"ID of the lease"`
	LeaseID    string `json:"lease_id,omitempty" audit:"plain" doc:"ID of the lease; that in the path counts more"`
	Sync       bool   `json:"sync,omitempty" doc:"accepted for compatibility: the lease has always ended when the answer comes"`
}

// LeasePrefix names the leases whose IDs begin with a path.
type LeasePrefix struct {
	Prefix string `json:"-" path:"prefix" audit:"plain" doc:"path that the IDs of leases begin with, or the ID of one"`
	Sync   bool   `json:"sync,omitempty" doc:"accepted for compatibility: the leases have always ended when the answer comes"`
}

// CountLeases asks for the number of leases.
type CountLeases struct {
	Type string `json:"type,omitempty" audit:"plain" doc:"irrevocable for those that could not be revoked; default is all"`
}

// LeaseCount is the number of leases, also by the accessor of their mount.
type LeaseCount struct {
	LeaseCount int            `json:"lease_count"`
	Counts     map[string]int `json:"counts"`
}
