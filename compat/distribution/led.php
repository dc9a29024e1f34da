<?php

// Each client gets a token and its rules from api.weixin.qq.com, each SDK a token, without configuration for qrjump.
foreach (['Psr/SimpleCache', 'Symfony/Component/HttpClient', 'Symfony/Component/Cache', 'Symfony/Component/Mime', 'Nyholm/Psr7',
    'GuzzleHttp'] as $name) {
    require "/usr/share/php/$name/autoload.php";
}
spl_autoload_register(function ($class) {
    if (str_starts_with($class, 'EasyWeChat\\')) {
        require __DIR__.'/easywechat/src/'.strtr(substr($class, 11), '\\', '/').'.php';
    }
});
$appid = getenv('QRJUMP_APPID');
$secret = getenv('QRJUMP_SECRET');
$address = "https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential&appid=$appid&secret=$secret";
$rules = 'https://api.weixin.qq.com/cgi-bin/wxopen/qrcodejumpget?access_token=';

// push receives and decrypts the pushed ticket of a third-party platform, and exchanges it for a token.
function push(): string
{
    $component = getenv('QRJUMP_COMPONENT_APPID');
    $secret = getenv('QRJUMP_COMPONENT_SECRET');
    $key = str_repeat('k', 42).'A';
    $server = stream_socket_server('tcp://127.0.0.1:0');
    $http = Symfony\Component\HttpClient\HttpClient::create();
    $http->request('PUT', getenv('QRJUMP_SERVER')."/admin/v1/components/$component", ['json' => ['message_token' => 'token',
        'encoding_aes_key' => $key, 'event_url' => 'http://'.stream_socket_get_name($server, false).'/']])->getContent();
    $http->request('POST', 'https://api.weixin.qq.com/cgi-bin/component/api_start_push_ticket',
        ['json' => ['component_appid' => $component, 'component_secret' => $secret]])->getContent();
    $connection = stream_socket_accept($server, 30);
    $line = fgets($connection);
    $length = 0;
    while (($header = trim(fgets($connection))) !== '') {
        sscanf(strtolower($header), 'content-length: %d', $length);
    }
    $body = stream_get_contents($connection, $length);
    fwrite($connection, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nsuccess");
    fclose($connection);
    parse_str(parse_url(explode(' ', $line)[1], PHP_URL_QUERY), $query);
    $encryptor = new EasyWeChat\Kernel\Encryptor($component, 'token', $key, $component);
    $encrypted = (string) simplexml_load_string($body)->Encrypt;
    $event = simplexml_load_string($encryptor->decrypt($encrypted, $query['msg_signature'], $query['nonce'], $query['timestamp']));

    return $http->request('POST', 'https://api.weixin.qq.com/cgi-bin/component/api_component_token', ['json' => [
        'component_appid' => $component, 'component_appsecret' => $secret,
        'component_verify_ticket' => (string) $event->ComponentVerifyTicket]])->toArray()['component_access_token'];
}

$clients = [
    'curl' => function ($method, $url, $body) {
        $curl = curl_init($url);
        curl_setopt_array($curl, [CURLOPT_RETURNTRANSFER => true, CURLOPT_CUSTOMREQUEST => $method, CURLOPT_POSTFIELDS => $body]);

        return curl_exec($curl);
    },
    'streams' => function ($method, $url, $body) use ($argv) {
        $http = ['method' => $method, 'content' => $body, 'header' => 'Content-Type: application/json'];
        if (($argv[2] ?? '') === 'line') {
            $http += ['proxy' => str_replace('http:', 'tcp:', getenv('HTTPS_PROXY')), 'request_fulluri' => true];
        }

        return file_get_contents($url, false, stream_context_create(['http' => $http]));
    },
    'Symfony HttpClient' => fn ($method, $url, $body) => Symfony\Component\HttpClient\HttpClient::create()
        ->request($method, $url, ['body' => $body])->getContent(),
    'Symfony NativeHttpClient' => fn ($method, $url, $body) => (new Symfony\Component\HttpClient\NativeHttpClient())
        ->request($method, $url, ['body' => $body])->getContent(),
    'Guzzle' => fn ($method, $url, $body) => (new GuzzleHttp\Client())->request($method, $url, ['body' => $body])->getBody(),
];
$sdks = [
    'EasyWeChat' => function () use ($appid, $secret) {
        $app = new EasyWeChat\MiniApp\Application(['app_id' => $appid, 'secret' => $secret]);
        $app->getClient()->postJson('/cgi-bin/wxopen/qrcodejumpget', ['get_type' => 0])->toArray();

        return $app->getAccessToken()->getToken();
    },
    'EasyWeChat, a pushed ticket' => push(...),
];

if (isset($sdks[$argv[1]])) {
    echo $sdks[$argv[1]](), "\n";
} else {
    $call = $clients[$argv[1]];
    $token = json_decode($call('GET', $address, ''))->access_token;
    echo $token, "\n", $call('POST', $rules.$token, '{"get_type":0}'), "\n";
}
