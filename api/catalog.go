package api

// Catalog lists the engines that are parts of this program.
type Catalog struct {
	Auth     []string       `json:"auth" audit:"plain"`
	Secret   []string       `json:"secret" audit:"plain"`
	Database []string       `json:"database" audit:"plain" doc:"empty: there is none"`
	Detailed []CatalogEntry `json:"detailed" audit:"-"`
}

// CatalogEntry describes an engine.
type CatalogEntry struct {
	Name              string `json:"name"`
	Type              string `json:"type"`
	Version           string `json:"version"`
	Builtin           bool   `json:"builtin"`
	DeprecationStatus string `json:"deprecation_status"`
}

// CatalogType names a kind of engines.
type CatalogType struct {
	Type string `json:"-" path:"type" audit:"plain" doc:"auth, secret or database"`
}

// CatalogPath names an engine.
type CatalogPath struct {
	Type string `json:"-" path:"type" audit:"plain" doc:"auth, secret or database"`
	Name string `json:"-" path:"name" audit:"plain" doc:"name of the engine"`
}

// CatalogPlugin is an engine, as Vault describes its plugins.
type CatalogPlugin struct {
	Name              string   `json:"name" audit:"plain"`
	Args              []string `json:"args" audit:"plain"`
	Builtin           bool     `json:"builtin"`
	Command           string   `json:"command" audit:"plain"`
	SHA256            string   `json:"sha256" audit:"plain"`
	Version           string   `json:"version" audit:"plain"`
	DeprecationStatus string   `json:"deprecation_status" audit:"plain"`
}
