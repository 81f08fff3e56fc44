// Package openapi describes the operations of the table: as an OpenAPI 3.1
// document for programs, and as text for people (the API reference and the help
// of a path).
//
// Promise: both come from the table and the types of package api alone, so that
// they say what this build does; the same table gives the same bytes. It trusts
// the table and does no input or output.
package openapi
