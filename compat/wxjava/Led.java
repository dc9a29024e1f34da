import cn.binarywang.wx.miniapp.api.WxMaService;
import cn.binarywang.wx.miniapp.api.impl.WxMaServiceImpl;
import cn.binarywang.wx.miniapp.config.impl.WxMaDefaultConfigImpl;
import cn.hutool.http.HttpUtil;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.RequestBody;
import org.apache.http.HttpHost;
import org.apache.http.client.methods.RequestBuilder;
import org.apache.http.entity.StringEntity;
import org.apache.http.impl.client.HttpClientBuilder;
import weixin.popular.api.TokenAPI;
import weixin.popular.client.HttpClientFactory;

/** Each Java client gets a token and its rules from api.weixin.qq.com, each SDK a token, without configuration for qrjump. */
public class Led {
	static final String APPID = System.getenv("QRJUMP_APPID");
	static final String SECRET = System.getenv("QRJUMP_SECRET");
	static final String ADDRESS =
		"https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential&appid=" + APPID + "&secret=" + SECRET;
	static final String RULES = "https://api.weixin.qq.com/cgi-bin/wxopen/qrcodejumpget?access_token=";

	static boolean byLine;

	public static void main(String[] args) throws Exception {
		byLine = args.length > 1;
		if (args[0].equals("WxJava")) {
			wxJava();
		} else if (args[0].equals("weixin-popular")) {
			weixinPopular();
		} else {
			String token = call(args[0], ADDRESS, null).replaceAll(".*\"access_token\":\"([^\"]*).*", "$1").trim();
			System.out.println(token);
			System.out.println(call(args[0], RULES + token, "{\"get_type\":0}"));
		}
		System.exit(0); // a client may keep its connection open
	}

	static String call(String client, String url, String body) throws Exception {
		return switch (client) {
			case "URLConnection" -> connection(url, body);
			case "java.net.http" -> HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(url))
				.method(body == null ? "GET" : "POST",
					body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body)).build(),
				HttpResponse.BodyHandlers.ofString()).body();
			case "Apache HttpClient 4" -> client4(url, body);
			case "Apache HttpClient 5" -> client5(url, body);
			case "OkHttp" -> new OkHttpClient().newCall(new Request.Builder().url(url)
				.method(body == null ? "GET" : "POST", body == null ? null : RequestBody.create(body.getBytes())).build())
				.execute().body().string();
			case "Hutool" -> body == null ? HttpUtil.get(url) : HttpUtil.post(url, body);
			default -> throw new IllegalArgumentException(client);
		};
	}

	static String connection(String url, String body) throws Exception {
		HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection();
		if (body != null) {
			connection.setDoOutput(true);
			connection.getOutputStream().write(body.getBytes());
		}
		return new String(connection.getInputStream().readAllBytes());
	}

	static String client4(String url, String body) throws Exception {
		HttpClientBuilder builder = HttpClientBuilder.create();
		RequestBuilder request = (body == null ? RequestBuilder.get() : RequestBuilder.post().setEntity(new StringEntity(body))).setUri(url);
		return new String((byLine ? builder.useSystemProperties() : builder).build().execute(request.build()).getEntity()
			.getContent().readAllBytes());
	}

	static String client5(String url, String body) throws Exception {
		org.apache.hc.client5.http.impl.classic.HttpClientBuilder builder =
			org.apache.hc.client5.http.impl.classic.HttpClientBuilder.create();
		org.apache.hc.core5.http.io.support.ClassicRequestBuilder request = body == null
			? org.apache.hc.core5.http.io.support.ClassicRequestBuilder.get(url)
			: org.apache.hc.core5.http.io.support.ClassicRequestBuilder.post(url)
				.setEntity(body, org.apache.hc.core5.http.ContentType.APPLICATION_JSON);
		return (byLine ? builder.useSystemProperties() : builder).build().execute(request.build(),
			answer -> new String(answer.getEntity().getContent().readAllBytes()));
	}

	static void wxJava() throws Exception {
		WxMaDefaultConfigImpl config = new WxMaDefaultConfigImpl();
		config.setAppid(APPID);
		config.setSecret(SECRET);
		if (byLine) {
			config.setHttpProxyHost(System.getProperty("https.proxyHost"));
			config.setHttpProxyPort(Integer.getInteger("https.proxyPort", 0));
		}
		WxMaService service = new WxMaServiceImpl();
		service.setWxMaConfig(config);
		System.out.println(service.getAccessToken());
	}

	static void weixinPopular() {
		if (byLine) {
			HttpClientFactory.setProxy(new HttpHost(System.getProperty("https.proxyHost"), Integer.getInteger("https.proxyPort")));
		}
		System.out.println(TokenAPI.token(APPID, SECRET).getAccess_token());
	}
}
