package signals

// restoreSignal is the address of what the handler returns to: the kernel wants to be told on amd64.
var restoreSignal uintptr

func handlerAction() *sigaction {
	return &sigaction{handler: onSignal, flags: saSigInfo | saOnStack | saRestart | saRestorer, restorer: restoreSignal}
}
