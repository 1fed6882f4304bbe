package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/shim"
)

// subcommands are words that dispatch knows, as first argument only.
var subcommands = []string{"run", "help", "version", "schema", "completion", "doctor", "ps", "stat", "kill", "freeze", "thaw", "gc"}

// completers write a shell's completion script from the flags.
var completers = map[string]func() string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}

func printCompletion(args []string) int {
	if len(args) == 1 {
		if script, ok := completers[args[0]]; ok {
			return printOut(script())
		}
	}
	complain(&shim.ErrorInfo{Message: fmt.Sprintf("completion %s: want bash, zsh or fish", strings.Join(args, " "))})
	return shim.ExitFailed
}

// A flagHelp is what completion scripts say of a flag.
type flagHelp struct {
	names      []string // with their dashes
	usage      string
	takesValue bool
	kind       string // what its value is: a key of words, "file", "dir", "user", "device", or ""
}

// kinds are the values that a shell can complete.
var kinds = map[string]string{
	"chdir": "dir", "stdin": "file", "stdout": "file", "stderr": "file", "output": "file", "user": "user",
	"device-read-bps": "device", "device-write-bps": "device", "device-read-iops": "device", "device-write-iops": "device",
	"net": "net", "ulimit": "ulimit",
}

// words are the values of the kinds that have few.
func words(kind string) string {
	switch kind {
	case "net":
		return "none host"
	case "ulimit":
		return strings.Join(slices.Sorted(slices.Values(shim.RlimitNames())), "= ") + "="
	}
	return ""
}

// quotes are what neither a zsh spec nor a fish description may have inside.
var quotes = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("[`'\\[\\]]") })

func flagHelps() []flagHelp {
	var list []flagHelp
	for _, f := range flags() {
		doc := f.(cli.DocGenerationFlag)
		help := flagHelp{usage: quotes().ReplaceAllString(doc.GetUsage(), ""), takesValue: doc.TakesValue(), kind: kinds[f.Names()[0]]}
		for _, name := range f.Names() {
			help.names = append(help.names, dashed(name))
		}
		list = append(list, help)
	}
	return list
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// selected are the names of the flags that something is true of.
func selected(sep string, wanted func(flagHelp) bool) string {
	var names []string
	for _, f := range flagHelps() {
		if wanted(f) {
			names = append(names, f.names...)
		}
	}
	return strings.Join(names, sep)
}

func ofKind(kind string) func(flagHelp) bool {
	return func(f flagHelp) bool { return f.kind == kind }
}

func bashCompletion() string {
	return strings.NewReplacer(
		"@FLAGS@", selected(" ", func(flagHelp) bool { return true }),
		"@VALUED@", selected("|", func(f flagHelp) bool { return f.takesValue }),
		"@FILE@", selected("|", ofKind("file")),
		"@DIR@", selected("|", ofKind("dir")),
		"@USER@", selected("|", ofKind("user")),
		"@DEVICE@", selected("|", ofKind("device")),
		"@NET@", words("net"),
		"@ULIMIT@", words("ulimit"),
		"@SUBCOMMANDS@", strings.Join(subcommands, " "),
	).Replace(`# bash completion for cgshim: source <(cgshim completion bash)
_cgshim() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} i=1 first=1
	COMPREPLY=()
	if ((COMP_CWORD == 2)) && [[ $prev == completion ]]; then
		COMPREPLY=($(compgen -W 'bash zsh fish' -- "$cur"))
		return
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
`)
}

func zshCompletion() string {
	actions := map[string]string{
		"file": "_files", "dir": "_files -/", "user": "_users", "device": "_files -W /dev", "net": "(" + words("net") + ")",
		"ulimit": "(" + words("ulimit") + ")",
	}
	var specs strings.Builder
	for _, f := range flagHelps() {
		for _, name := range f.names {
			spec := "*" + name + "[" + f.usage + "]"
			if f.takesValue {
				spec += ":value:" + actions[f.kind]
			}
			fmt.Fprintf(&specs, "\t\t'%s' \\\n", strings.ReplaceAll(spec, ": then", "; then"))
		}
	}
	return strings.NewReplacer("@SPECS@", specs.String(), "@SUBCOMMANDS@", strings.Join(subcommands, " ")).Replace(`#compdef cgshim
# zsh completion for cgshim: source <(cgshim completion zsh), after compinit
_cgshim() {
	if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then
		compadd @SUBCOMMANDS@
		_command_names -e
		return
	fi
	if [[ $words[2] == completion ]]; then
		compadd bash zsh fish
		return
	fi
	if [[ $words[2] == run ]]; then
		words[2]=()
		((CURRENT--))
	fi
	_arguments -S \
@SPECS@		'(-):program:_command_names -e' \
		'*::argument:_normal'
}
compdef _cgshim cgshim
`)
}

func fishCompletion() string {
	actions := map[string]string{
		"file": " -r -F", "dir": " -x -a '(__fish_complete_directories)'", "user": " -x -a '(__fish_complete_users)'",
		"device": " -r -F", "net": " -x -a '" + words("net") + "'", "ulimit": " -x -a '" + words("ulimit") + "'", "": " -x",
	}
	var b strings.Builder
	b.WriteString(strings.NewReplacer(
		"@VALUED@", selected(" ", func(f flagHelp) bool { return f.takesValue }),
		"@SUBCOMMANDS@", strings.Join(subcommands, " "),
	).Replace(`# fish completion for cgshim: cgshim completion fish | source
# The words from PROG on: the first that is neither a flag nor a flag's value.
function __cgshim_program
    set -l words (commandline -opc)
    set -e words[1]
    test "$words[1]" = run; and set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --
                set -e words[1]
                break
            case '-*=*'
            case '-*'
                contains -- $words[1] @VALUED@; and set -e words[1]
            case '*'
                break
        end
        set -e words[1]
    end
    string escape -- $words
    set -q words[1]; or contains -- -- (commandline -opc)
end
function __cgshim_in_program
    __cgshim_program >/dev/null
end
function __cgshim_in_completion
    test (commandline -opc)[2] = completion 2>/dev/null
end
complete -c cgshim -f
complete -c cgshim -n __fish_is_first_token -a '@SUBCOMMANDS@'
complete -c cgshim -n __cgshim_in_completion -a 'bash zsh fish'
complete -c cgshim -n '__cgshim_in_program; and not __cgshim_in_completion' -a '(complete -C (string join " " -- (__cgshim_program) (commandline -ct)))'
complete -c cgshim -n 'not __cgshim_in_program' -a '(__fish_complete_command)'
`))
	for _, f := range flagHelps() {
		b.WriteString("complete -c cgshim -n 'not __cgshim_in_program'")
		for _, name := range f.names {
			option := " -l "
			if !strings.HasPrefix(name, "--") {
				option = " -s "
			}
			b.WriteString(option + strings.TrimLeft(name, "-"))
		}
		if f.takesValue {
			b.WriteString(actions[f.kind])
		}
		b.WriteString(" -d '" + f.usage + "'\n")
	}
	return b.String()
}
