<?php
// What ownCloud's encryption application sends to hsmdaemon, byte by byte: run as
//   php owncloud.php HOST:PORT SECRET new
//   php owncloud.php HOST:PORT SECRET decrypt KEYID   (ciphertext on standard input)
//   php owncloud.php HOST:PORT SECRET occ KEYID       (base64 on standard input)
//   php owncloud.php HOST:PORT SECRET roundtrip
// It prints the status on the first line and then the body as it is.

function base64url(string $data): string {
	return rtrim(strtr(base64_encode($data), '+/', '-_'), '=');
}

function token(array $claims, string $secret): string {
	$header = base64url(json_encode(['typ' => 'JWT', 'alg' => 'HS256']));
	$payload = base64url(json_encode($claims));
	return "$header.$payload." . base64url(hash_hmac('sha256', "$header.$payload", $secret, true));
}

// The HTTP client of the application sends no Content-Type with a body of text.
function post(string $server, string $path, string $token, string $body): array {
	$socket = stream_socket_client("tcp://$server", $errno, $error, 10);
	if ($socket === false) {
		fwrite(STDERR, "$error\n");
		exit(1);
	}
	stream_set_timeout($socket, 20);
	fwrite($socket, "POST $path HTTP/1.1\r\nHost: $server\r\nUser-Agent: GuzzleHttp/5.3.4 PHP/" . PHP_VERSION . "\r\n"
		. "Authorization: Bearer $token\r\nConnection: close\r\nContent-Length: " . strlen($body) . "\r\n\r\n$body");
	$answer = stream_get_contents($socket);
	[$head, $rest] = explode("\r\n\r\n", $answer, 2);
	return [(int) explode(' ', $head)[1], $rest];
}

function claims(array $first, int $expires, array $last): array {
	return array_merge(['iss' => 'oc12345instance'], $first, ['aud' => 'hsmdaemon', 'exp' => $expires], $last,
		['iat' => time(), 'jti' => uniqid('', true)]);
}

function newKey(string $server, string $secret): array {
	return post($server, '/keys/new', token(claims(['sub' => null], time() + 120, ['rid' => 'AbCdEfGhIjKlMnOpQrSt']), $secret), '');
}

function decrypt(string $server, string $secret, string $key, string $ciphertext): array {
	return post($server, "/decrypt/$key", token(claims([], time() + 120, ['rid' => 'AbCdEfGhIjKlMnOpQrSt']), $secret), $ciphertext);
}

[, $server, $secret, $what] = $argv;
$key = $argv[4] ?? '';
switch ($what) {
	case 'new':
		[$status, $body] = newKey($server, $secret);
		break;
	case 'decrypt':
		[$status, $body] = decrypt($server, $secret, $key, stream_get_contents(STDIN));
		break;
	case 'occ': // does not trim the slash of hsm.url, and makes tokens that expire at once
		[$status, $body] = post($server, "//decrypt/$key", token(claims([], time(), []), $secret), base64_decode(stream_get_contents(STDIN)));
		$body = $status === 200 ? "decrypted string (base64 encoded): '" . base64_encode($body) . "'" : $body;
		break;
	case 'roundtrip': // a master key as the application makes it, and its file
		[$status, $body] = newKey($server, $secret);
		if ($status === 200) {
			$pair = json_decode($body);
			$fileKey = random_bytes(32);
			openssl_public_encrypt($fileKey, $sealed, $pair->publicKey, OPENSSL_PKCS1_PADDING);
			[$status, $opened] = decrypt($server, $secret, $pair->privateKeyId, $sealed);
			$file = 'HBEGIN:cipher:AES-256-CTR:keyFormat:hash:encoding:binary:HEND' . $pair->privateKeyId . str_repeat(' ', 96);
			$body = ($opened === $fileKey ? 'same' : 'different') . ' ' . strlen($sealed) . ' ' . strlen($file);
		}
		break;
}
echo "$status\n$body";
