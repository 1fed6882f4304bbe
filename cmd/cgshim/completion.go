package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/deliver"
	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
)

const completionHelp = `Prints the completion script of a shell, which is bash, zsh or fish: source <(cgshim completion bash)`

// printCompletion is "cgshim completion SHELL".
func printCompletion(c *cli.Context) int {
	if c.NArg() == 1 {
		if script, ok := flags.Completion(c.Args().First(), c.App.Commands); ok {
			return printOut(script)
		}
	}
	_ = deliver.Complain(&shim.ErrorInfo{Message: fmt.Sprintf("completion %s: want bash, zsh or fish", strings.Join(c.Args().Slice(), " "))})
	return shim.ExitFailed
}
