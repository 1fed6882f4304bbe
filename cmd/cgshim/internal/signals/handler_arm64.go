package signals

func handlerAction() *sigaction {
	return &sigaction{handler: onSignal, flags: saSigInfo | saOnStack | saRestart}
}
