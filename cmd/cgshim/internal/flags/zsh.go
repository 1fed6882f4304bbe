package flags

import "strings"

func (c *completion) zsh() string {
	var commands []string
	for _, command := range c.commands {
		commands = append(commands, command.zsh())
	}
	return strings.NewReplacer(
		"@SPECS@", zshSpecs(c.run), "@COMMANDS@", strings.Join(commands, "\n"), "@SUBCOMMANDS@", c.names,
	).Replace(zshScript)
}

// zsh writes the part of the script for one subcommand.
func (c *commandHelp) zsh() string {
	specs := zshSpecs(c.flags)
	if c.words != "" {
		specs += " \\\n\t\t'1:argument:(" + c.words + ")'"
	}
	return "\t" + c.name + ")\n\t\twords[2]=()\n\t\t((CURRENT--))\n\t\t_arguments -S \\\n" + specs + "\n\t\treturn\n\t\t;;"
}

// zshSpecs writes the flags as arguments of _arguments.
func zshSpecs(list []flagHelp) string {
	var specs []string
	for _, f := range list {
		for _, name := range f.names {
			spec := "*" + name + "[" + f.usage + "]"
			if f.takesValue {
				spec += ":value:" + zshAction(f.kind)
			}
			specs = append(specs, "\t\t'"+strings.ReplaceAll(spec, ": then", "; then")+"'")
		}
	}
	return strings.Join(specs, " \\\n")
}

func zshAction(kind string) string {
	switch kind {
	case "":
		return ""
	case "file":
		return "_files"
	case "dir":
		return "_files -/"
	case "user":
		return "_users"
	case "device":
		return "_files -W /dev"
	}
	return "(" + words(kind) + ")"
}

const zshScript = `#compdef cgshim
# zsh completion for cgshim: source <(cgshim completion zsh), after compinit
_cgshim() {
	if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then
		compadd @SUBCOMMANDS@
		_command_names -e
		return
	fi
	case $words[2] in
@COMMANDS@
	esac
	if [[ $words[2] == run ]]; then
		words[2]=()
		((CURRENT--))
	fi
	_arguments -S \
@SPECS@ \
		'(-):program:_command_names -e' \
		'*::argument:_normal'
}
compdef _cgshim cgshim
`
