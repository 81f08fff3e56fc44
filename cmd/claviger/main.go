// Claviger keeps keys in a PKCS#11 token and offers them over the network.
package main

import (
	"os"

	"github.com/claviger/claviger/internal/cli"
)

func main() { os.Exit(cli.Main()) }
