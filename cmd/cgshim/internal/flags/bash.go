package flags

import "strings"

func (c *completion) bash() string {
	var commands []string
	for _, command := range c.commands {
		commands = append(commands, command.bash())
	}
	return strings.NewReplacer(
		"@FLAGS@", selected(c.run, " ", anyFlag),
		"@VALUED@", selected(c.run, "|", valued),
		"@FILE@", selected(c.run, "|", ofKind("file")),
		"@DIR@", selected(c.run, "|", ofKind("dir")),
		"@USER@", selected(c.run, "|", ofKind("user")),
		"@DEVICE@", selected(c.run, "|", ofKind("device")),
		"@NET@", words("net"),
		"@SHIELD@", words("shield"),
		"@ULIMIT@", words("ulimit"),
		"@MANAGER@", words("manager"),
		"@COMMANDS@", strings.Join(commands, "\n"),
		"@SUBCOMMANDS@", c.names,
	).Replace(bashScript)
}

// bash writes the part of the script for one subcommand.
func (c *commandHelp) bash() string {
	text := "\t\t" + c.name + ")\n\t\t\tcase $prev in\n"
	for _, f := range c.flags {
		if list := words(f.kind); list != "" {
			text += "\t\t\t" + strings.Join(f.names, "|") + ") COMPREPLY=($(compgen -W '" + list + "' -- \"$cur\")) ;;\n"
		}
	}
	if names := selected(c.flags, "|", valued); names != "" {
		text += "\t\t\t" + names + ") ;;\n"
	}
	if c.words != "" {
		text += "\t\t\t" + c.name + ")\n\t\t\t\tCOMPREPLY=($(compgen -W '" + c.words + "' -- \"$cur\"))\n" +
			"\t\t\t\t[[ $cur != -* ]] || COMPREPLY=($(compgen -W '" + selected(c.flags, " ", anyFlag) + "' -- \"$cur\"))\n\t\t\t\t;;\n"
	}
	text += "\t\t\t*) COMPREPLY=($(compgen -W '" + selected(c.flags, " ", anyFlag) + "' -- \"$cur\")) ;;\n"
	return text + "\t\t\tesac\n\t\t\treturn\n\t\t\t;;"
}

const bashScript = `# bash completion for cgshim: source <(cgshim completion bash)
_cgshim() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} i=1 first=1
	COMPREPLY=()
	if ((COMP_CWORD > 1)); then
		case ${COMP_WORDS[1]} in
@COMMANDS@
		esac
	fi
	[[ ${COMP_WORDS[1]} != run ]] || i=2
	# Where PROG is: the first word that is neither a flag nor a flag's value.
	for (( ; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--)
			((i++))
			break
			;;
		@VALUED@) ((i++)) ;;
		=) ((i++)) ;;
		-*) ;;
		*) break ;;
		esac
	done
	if ((i < COMP_CWORD)) || { ((i == COMP_CWORD)) && [[ $prev == -- ]]; }; then
		if declare -F _command_offset >/dev/null; then
			_command_offset "$i"
		elif ((i == COMP_CWORD)); then
			COMPREPLY=($(compgen -c -- "$cur") $(compgen -f -- "$cur"))
		else
			COMPREPLY=($(compgen -f -- "$cur"))
		fi
		return
	fi
	case $prev in
	@FILE@) COMPREPLY=($(compgen -f -- "$cur")) ;;
	@DIR@) COMPREPLY=($(compgen -d -- "$cur")) ;;
	@USER@) COMPREPLY=($(compgen -u -- "$cur")) ;;
	@DEVICE@) COMPREPLY=($(compgen -f -- "${cur:-/dev/}")) ;;
	--net) COMPREPLY=($(compgen -W '@NET@' -- "$cur")) ;;
	--shield) COMPREPLY=($(compgen -W '@SHIELD@' -- "$cur")) ;;
	--manager) COMPREPLY=($(compgen -W '@MANAGER@' -- "$cur")) ;;
	--ulimit)
		COMPREPLY=($(compgen -W '@ULIMIT@' -- "$cur"))
		compopt -o nospace 2>/dev/null
		;;
	@VALUED@) ;;
	*)
		COMPREPLY=($(compgen -W '@FLAGS@' -- "$cur"))
		if [[ $cur != -* ]]; then
			((COMP_CWORD > 1)) || COMPREPLY=($(compgen -W '@SUBCOMMANDS@' -- "$cur"))
			COMPREPLY+=($(compgen -c -- "$cur") $(compgen -f -- "$cur"))
		fi
		;;
	esac
}
complete -o filenames -F _cgshim cgshim
`
